"""How fast and how safely products are delivered, from the ledger."""
