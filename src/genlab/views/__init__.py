"""Views: ways to look at what a trained model has learned, one file each."""
