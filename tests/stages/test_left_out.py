"""What the joint model left out of frames is said of them."""

import json

from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import publications
from lightcurver_ops.cli import frames as cli_frames
from lightcurver_ops.stages.usage import usage


def test_frames_say_what_the_model_left_out_of_them(season_copy, capsys):
    season = season_copy()
    lens = season.lens()
    with reading(lens.engine) as connection:
        first, second, *_ = (
            item.frame.image_relpath for item in usage(connection, lens.config) if not item.reason
        )
    notes = json.dumps(
        {
            first: {"note": "set aside: a trail", "aside": True},
            second: {"note": "9 pixels", "aside": False},
        }
    )
    with writing(lens.engine) as connection:
        connection.execute(publications.update().values(epoch_notes=notes))
    with reading(lens.engine) as connection:
        found = {item.frame.image_relpath: item for item in usage(connection, lens.config)}
    path = season.config_path
    lens.close()
    assert (found[first].used, found[second].used) == ("set aside", "yes")
    cli_frames.list_frames(path, unused=False, as_csv=False)
    said = capsys.readouterr().out
    assert "set aside: a trail" in said
    assert "(1 of them set aside by the joint model)" in said
    cli_frames.why(path, [second])
    assert "joint model: 9 pixels" in capsys.readouterr().out
