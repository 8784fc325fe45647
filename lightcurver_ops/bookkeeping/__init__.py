"""The rows behind the products: tables, migrations, queries by subject, and the ledger of stage runs."""
