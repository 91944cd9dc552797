"""Drawing: functions that turn arrays into pictures and films, and write them to files."""
