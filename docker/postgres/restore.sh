#!/bin/sh
# Put a backup back: both databases are made anew, each in one transaction. No service may be at work.
#   restore.sh NAME        (of a folder in $LCOPS_BACKUPS)
set -eu
PGPASSWORD=$(cat "$LCOPS_SECRETS/postgres_password")
export PGPASSWORD PGUSER=postgres
if [ $# -ne 1 ] || [ ! -d "$LCOPS_BACKUPS/$1" ]; then
    echo "restore: give the name of a backup; there are:" >&2
    ls -1 "$LCOPS_BACKUPS" >&2
    exit 2
fi
for pair in airflow:airflow lenses:lenses_owner; do
    database=${pair%%:*} owner=${pair##*:}
    # Restored beside the old one, which goes only when the new one is whole.
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres <<-SQL
		DROP DATABASE IF EXISTS ${database}_restored;
		DROP DATABASE IF EXISTS ${database}_replaced;
		CREATE DATABASE ${database}_restored OWNER $owner;
		REVOKE ALL ON DATABASE ${database}_restored FROM PUBLIC;
	SQL
    pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --role="$owner" \
        --dbname="${database}_restored" "$LCOPS_BACKUPS/$1/$database.dump"
done
# Both change their names or none does. Fails where somebody is still connected to one: stop the services first.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres <<-'SQL'
	BEGIN;
	SELECT format('ALTER DATABASE %I RENAME TO %I', datname, datname || '_replaced')
	    FROM pg_database WHERE datname IN ('airflow', 'lenses') \gexec
	ALTER DATABASE airflow_restored RENAME TO airflow;
	ALTER DATABASE lenses_restored RENAME TO lenses;
	COMMIT;
	DROP DATABASE IF EXISTS airflow_replaced;
	DROP DATABASE IF EXISTS lenses_replaced;
SQL
echo "restored airflow and lenses from $1"
echo "now: docker compose up -d (its init job gives the roles their rights again)"
