"""What is seen of a product in service: windows of predictions, drift, performance."""
