#!/bin/sh
# One backup of both databases: a folder of its own, whole or not there, and checked.
#   backup.sh          the newest $LCOPS_BACKUPS_KEPT of $LCOPS_BACKUPS are kept
set -eu
PGPASSWORD=$(cat "$LCOPS_SECRETS/postgres_password")
export PGPASSWORD PGUSER=postgres
umask 077

name=$(date -u +%Y%m%dT%H%M%SZ)
part=$LCOPS_BACKUPS/.$name.part
rm -rf "$LCOPS_BACKUPS"/.*.part
mkdir -p "$part"
for database in airflow lenses; do
    pg_dump --format=custom --dbname="$database" --file="$part/$database.dump"
    pg_restore --list "$part/$database.dump" >"$part/$database.list"
done
sync "$part"/*
mv "$part" "$LCOPS_BACKUPS/$name"
echo "backup $LCOPS_BACKUPS/$name"

ls -1d "$LCOPS_BACKUPS"/[0-9]*Z | sort -r | tail -n "+$((LCOPS_BACKUPS_KEPT + 1))" | while read -r old; do
    rm -rf "$old"
    echo "removed $old"
done
