"""The commands of ``shardscope``, a module each. One is imported when it is asked for, as is all that it needs."""
