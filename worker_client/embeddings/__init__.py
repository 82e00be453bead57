"""Looking rows up by ids, over whole and partitioned variables."""
