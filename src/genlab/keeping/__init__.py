"""List runs and the room that they take, and remove them."""
