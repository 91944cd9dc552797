"""The commands of ``genlab``, one file each: compose the config, call, print."""
