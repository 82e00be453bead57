"""Files and directories that are really on the disk, and the data directory's lock and version."""
