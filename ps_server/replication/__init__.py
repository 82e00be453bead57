"""A ps task in two processes: the primary serves, the backup has every update and takes over."""
