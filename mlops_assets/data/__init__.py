"""Sources with versions, contracts with quarantine, snapshots named by digest."""
