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
		CREATE DATABASE ${database}_restored OWNER $owner;
		REVOKE ALL ON DATABASE ${database}_restored FROM PUBLIC;
	SQL
    pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --role="$owner" \
        --dbname="${database}_restored" "$LCOPS_BACKUPS/$1/$database.dump"
done
for database in airflow lenses; do
    # Fails where somebody is still connected: stop the services first.
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres <<-SQL
		DROP DATABASE IF EXISTS $database;
		ALTER DATABASE ${database}_restored RENAME TO $database;
	SQL
    echo "restored $database from $1"
done
echo "now: docker compose up -d (its init job gives the roles their rights again)"
