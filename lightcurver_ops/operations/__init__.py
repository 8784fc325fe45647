"""What an observatory does with its lenses every night, whoever runs it: Airflow, cron, or a person."""
