"""Provenance: hashes of raw files; snapshots of publications, and hashes of their rows"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"

_NEW: dict[str, list[sa.Column]] = {
    "frames": [
        sa.Column(
            "raw_sha256",
            sa.String(length=64),
            nullable=True,
            comment="sha256 of the raw file as it was imported; null: not recorded",
        ),
    ],
    "publications": [
        sa.Column(
            "files",
            sa.Text(),
            nullable=True,
            comment="JSON: files of its snapshot, relative to the workdir: their sha256",
        ),
        sa.Column(
            "rows_sha256",
            sa.String(length=64),
            nullable=True,
            comment="sha256 of this row and its points; null: not recorded",
        ),
    ],
}


# No batches: nothing here needs a table to be copied, on SQLite either.


def upgrade() -> None:
    for table, columns in _NEW.items():
        for column in columns:
            op.add_column(table, column)


def downgrade() -> None:
    for table, columns in _NEW.items():
        for column in columns:
            op.drop_column(table, column.name)
