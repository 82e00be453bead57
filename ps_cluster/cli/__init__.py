"""The commands of ``shardscope``, one module each, imported when it is asked for. No other room imports them."""
