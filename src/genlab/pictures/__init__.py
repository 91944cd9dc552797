"""Drawing: how arrays become pictures and films, and the files of both."""
