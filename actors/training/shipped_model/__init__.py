"""Make the shipped model, and measure its accuracy. The image does not contain this package."""
