"""The pipeline as Airflow DAGs: the only package that imports Airflow, and nothing of the numerics."""
