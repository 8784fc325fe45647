"""Accuracy: neighbours of stars, double PSFs, variable reference stars, errors calibrated on control stars"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NEW: dict[str, list[sa.Column]] = {
    "stars": [
        sa.Column(
            "contamination",
            sa.Double(),
            nullable=True,
            comment="flux of catalogue neighbours within a stamp, in units of the star's",
        ),
    ],
    "PSFs": [
        sa.Column("doubleness", sa.Double(), nullable=True, comment="0 for a single PSF"),
    ],
    "star_normalization": [
        sa.Column(
            "excess",
            sa.Double(),
            nullable=True,
            comment="relative scatter that the uncertainties do not explain",
        ),
        sa.Column("chi2", sa.Double(), nullable=True, comment="of the star around the coefficients, reduced"),
        sa.Column("variable", sa.Boolean(), nullable=True, comment="the star varies more than the others"),
    ],
    "publications": [
        sa.Column(
            "control_stars",
            sa.Text(),
            nullable=True,
            comment="JSON: stars modelled like the lens, their scatter over their quoted errors",
        ),
    ],
    "light_curve_points": [
        sa.Column(
            "flux_uncertainty_model",
            sa.Double(),
            nullable=True,
            comment="electron / s, before calibration on control stars; null: not calibrated",
        ),
    ],
}


def upgrade() -> None:
    for table, columns in _NEW.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in columns:
                batch_op.add_column(column)


def downgrade() -> None:
    for table, columns in _NEW.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for column in columns:
                batch_op.drop_column(column.name)
