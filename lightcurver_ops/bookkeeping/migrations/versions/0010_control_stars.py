"""Control stars: which of the candidates are chosen, and what speaks against the others. Radii of apertures"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "control_stars",
        sa.Column("lens", sa.String(length=100), nullable=False, comment="name of the lens"),
        sa.Column(
            "combined_footprint_hash",
            sa.String(length=64),
            nullable=False,
            comment="identifier of the star selection: region, cuts, catalogue",
        ),
        sa.Column("filter", sa.String(length=40), nullable=False, comment="name of the filter"),
        sa.Column("star_gaia_id", sa.String(length=40), nullable=False, comment="stars.gaia_id"),
        sa.Column("chosen", sa.Boolean(), nullable=False, comment="modelled like the lens"),
        sa.Column("fault", sa.Text(), nullable=True, comment="what speaks against the star; NULL: nothing"),
        sa.Column(
            "inputs_hash",
            sa.String(length=64),
            nullable=False,
            comment="hash of the keys and inputs it was made from",
        ),
        sa.Column(
            "code_version",
            sa.String(length=50),
            nullable=False,
            comment="version of lightcurver-ops that made it",
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False, comment="UTC"),
        sa.ForeignKeyConstraint(
            ["lens"], ["lenses.name"], name=op.f("fk_control_stars_lens"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "lens", "combined_footprint_hash", "filter", "star_gaia_id", name=op.f("pk_control_stars")
        ),
        comment="stars that may serve as control stars, and which of them do",
    )
    op.add_column(
        "star_flux_in_frame",
        sa.Column("aperture_radius", sa.Double(), nullable=True, comment="px; NULL: by the PSF"),
    )


def downgrade() -> None:
    with op.batch_alter_table("star_flux_in_frame") as table:
        table.drop_column("aperture_radius")
    op.drop_table("control_stars")
