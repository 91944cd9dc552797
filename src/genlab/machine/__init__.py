"""The machine that a run uses: its devices, processes, files and terminal."""
