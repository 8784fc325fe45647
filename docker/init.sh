#!/bin/sh
# Before the services start, and after each upgrade: schemas, roles, DAG files, pools, connections, the first user.
# It may run again at any time; while services of an older version are at work, it must not.
set -eu
secret() { cat "$LCOPS_SECRETS/$1"; }

export PGPASSWORD LCOPS_WRITER_PASSWORD LCOPS_READER_PASSWORD
PGPASSWORD=$(secret lenses_owner_password)
LCOPS_WRITER_PASSWORD=$(secret lenses_writer_password)
LCOPS_READER_PASSWORD=$(secret lenses_reader_password)
lcops db upgrade "$LCOPS_LENSES_URL"
lcops db roles "$LCOPS_LENSES_URL"
unset PGPASSWORD LCOPS_WRITER_PASSWORD LCOPS_READER_PASSWORD

airflow db migrate
python -m lightcurver_ops.airflow.deploy "$LCOPS_DAG_SOURCE" "$AIRFLOW__CORE__DAGS_FOLDER"
airflow pools import "$AIRFLOW__CORE__DAGS_FOLDER/pools.json"
airflow connections import --overwrite "$LCOPS_SECRETS/connections.json"
# A password that people have changed since stays: the user is made once. It is typed twice, as a person would.
printf '%s\n%s\n' "$(secret admin_password)" "$(secret admin_password)" |
    airflow users create --username admin --role Admin --firstname Observatory --lastname Operator --email "$LCOPS_ADMIN_EMAIL"
