"""Measuring what is finished: runs, the images of a folder by a run, and one set of images against another."""
