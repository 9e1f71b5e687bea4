"""Training: from a training set and a recipe to a model that is named by its digest."""
