"""When and why a product is trained again."""
