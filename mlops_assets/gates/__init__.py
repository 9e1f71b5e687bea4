"""Gates as data, their judgements, and the asset checks that show them."""
