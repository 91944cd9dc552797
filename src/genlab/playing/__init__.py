"""A local page to play with a trained model: what it can do, with the settings that it has."""
