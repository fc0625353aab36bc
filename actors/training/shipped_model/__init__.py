"""What makes the shipped model and measures its accuracy. It is no part of the product."""
