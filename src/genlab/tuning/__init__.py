"""Choice of precision and compilation by the measured step, before a run begins."""
