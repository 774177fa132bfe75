"""One module per CRM. A connector sees `crmsync.connector`, `http`, `model`, `errors`, and nothing else."""
