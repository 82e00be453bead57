"""``python -m shardscope``: the command ``shardscope``."""

import ps_cluster.__main__

if __name__ == "__main__":
    ps_cluster.__main__.main()
