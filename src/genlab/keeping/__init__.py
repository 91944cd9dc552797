"""What runs there are, how much room they take, and removing them."""
