"""Names of other libraries, so that code written for them runs with only its import changed."""
