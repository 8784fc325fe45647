#!/bin/sh
# Make the passwords and keys of a deployment, once; what is there stays.
#   docker/make-secrets.sh [DIRECTORY]      (docker/secrets)
# $LCOPS_POSTGRES and $LCOPS_REDIS: host:port, where they are not those of compose.yaml.
set -eu
directory=${1:-$(dirname "$0")/secrets}
postgres=${LCOPS_POSTGRES:-postgres:5432}
redis=${LCOPS_REDIS:-redis:6379}

# The directory keeps the other users of this machine out; the files can be read by the users of the containers.
umask 022
mkdir -p "$directory"
chmod 700 "$directory"

keep() { # NAME: standard input becomes a secret, unless there is one
    if [ -e "$directory/$1" ]; then cat >/dev/null; else
        cat >"$directory/$1.part"
        chmod 444 "$directory/$1.part"
        mv "$directory/$1.part" "$directory/$1"
        echo "made $directory/$1"
    fi
}
random() { # BYTES, URL-safe
    head -c "$1" /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'
}
secret() { cat "$directory/$1"; }

for name in postgres airflow celery lenses_owner lenses_writer lenses_reader redis admin; do
    random 24 | keep "${name}_password"
done
random 32 | keep fernet_key
for name in api_secret_key jwt_secret; do # as long as the hash that they are for
    random 48 | keep "$name"
done
# The same passwords, as Airflow takes them.
printf 'postgresql+psycopg2://airflow:%s@%s/airflow' "$(secret airflow_password)" "$postgres" | keep airflow_database_url
printf 'db+postgresql+psycopg2://celery:%s@%s/celery' "$(secret celery_password)" "$postgres" | keep celery_result_url
printf 'redis://:%s@%s/0' "$(secret redis_password)" "$redis" | keep celery_broker_url
printf '{"lightcurver_db": "postgresql://lcops_writer:%s@%s/lenses",\n "lightcurver_db_read_only": "postgresql://lcops_reader:%s@%s/lenses"}\n' \
    "$(secret lenses_writer_password)" "$postgres" "$(secret lenses_reader_password)" "$postgres" | keep connections.json
