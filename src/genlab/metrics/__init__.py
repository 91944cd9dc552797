"""What models are measured by: results with their protocol, and what measures look at."""
