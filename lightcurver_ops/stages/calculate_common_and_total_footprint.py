"""Stage 3: the footprint common to all frames and that of all together; bad pointings are eliminated."""

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import combined_footprint
from lightcurver_ops.stages.base import WHOLE_LENS, Run, Stage, joined

BAD_POINTING = "bad_pointing"


class CalculateCommonAndTotalFootprint(Stage):
    """Combines the footprints."""

    name = "calculate_common_and_total_footprint"
    title = "Common and total footprint; bad pointings"
    depends_on = ("plate_solving",)
    config_keys = ("roi.ra", "roi.dec")

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        taking_part = self._frames(connection)
        if not taking_part:
            return {}
        solved = frames.footprints_of(connection, self.lens.name)
        return {
            WHOLE_LENS: self.hash_inputs(
                [(row.image_relpath, solved[row.id].inputs_hash) for row in taking_part]
            )
        }

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.astrometry import footprints

        inputs_hash = units[WHOLE_LENS]
        roi = self.config.roi
        with reading(self.lens.engine) as connection:
            rows = self._frames(connection)
            known = frames.footprints_of(connection, self.lens.name)
        polygons = [footprints.polygon_from_text(known[row.id].polygon) for row in rows]
        bad = footprints.bad_pointings(
            np.array([known[row.id].center_ra for row in rows]),
            np.array([known[row.id].center_dec for row in rows]),
            roi.ra,
            roi.dec,
            min(min(row.width, row.height) * row.pixel_scale / 3600 for row in rows),
        )
        combined = footprints.combine_footprints(
            [polygon for polygon, is_bad in zip(polygons, bad, strict=True) if not is_bad], roi.ra, roi.dec
        )
        if combined.message:
            run.note(combined.message)
        bad_ids = [row.id for row, is_bad in zip(rows, bad, strict=True) if is_bad]
        if bad_ids:
            names = [row.image_relpath for row in rows if row.id in bad_ids]
            run.note(f"{len(bad_ids)} bad pointings eliminated: {joined(names)}")

        def write(connection: sa.Connection) -> None:
            frames.restore(connection, [row.id for row in rows], by=self.name)
            frames.eliminate(connection, bad_ids, BAD_POINTING, self.name)
            row = {
                "lens": self.lens.name,
                "hash": inputs_hash,
                "largest": footprints.region_to_text(combined.largest),
                "common": footprints.region_to_text(combined.common),
                "n_frames": len(rows) - len(bad_ids),
                **ledger.provenance(inputs_hash),
            }
            connection.execute(
                sa.delete(combined_footprint).where(combined_footprint.c.lens == self.lens.name)
            )
            ledger.upsert(connection, combined_footprint, [row])

        run.done(WHOLE_LENS, inputs_hash, write)
        if self.config.compute.diagnostics:
            from lightcurver_ops.stages.figures import draw_footprints

            draw_footprints(self.lens, with_stars=False)

    def _frames(self, connection: sa.Connection) -> list[sa.Row]:
        return [
            row
            for row in frames.all_frames(connection, self.lens.name)
            if row.plate_solved and (not row.eliminated or row.eliminated_by == self.name)
        ]


def combined_footprint_of(connection: sa.Connection, lens: str) -> sa.Row | None:
    """The combined footprint of a lens."""
    query = sa.select(combined_footprint).where(combined_footprint.c.lens == lens)
    return connection.execute(query.order_by(combined_footprint.c.made_at.desc()).limit(1)).first()
