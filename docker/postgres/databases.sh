#!/bin/sh
# The databases of a deployment, each with its own owner: run by the image's entrypoint, once, on an empty server.
set -eu

make() { # DATABASE OWNER SECRET [RIGHTS]; psql reads the password itself: it stands on no command line
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<-SQL
		\set password \`cat $LCOPS_SECRETS/$3\`
		CREATE ROLE $2 LOGIN ${4:-} PASSWORD :'password';
		CREATE DATABASE $1 OWNER $2;
		REVOKE ALL ON DATABASE $1 FROM PUBLIC;
	SQL
}

make airflow airflow airflow_password
make celery celery celery_password
make lenses lenses_owner lenses_owner_password CREATEROLE
