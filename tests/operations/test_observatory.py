"""An observatory's lens files: which there are, whose name is whose, and that a broken one spoils no other."""

import pytest

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.observatory import (
    dag_name,
    find_lens,
    load_lenses,
    open_observatory,
    shard_of,
)


@pytest.fixture
def observatory(site):
    """Opens an observatory whose file says this."""

    def open_with(text="lenses: [lenses/*.yaml]\n"):
        path = site.directory / "observatory.yaml"
        path.write_text(text)
        return open_observatory(path)

    return open_with


def names(found):
    return [loaded.lens.name for loaded in found.lenses]


def test_lens_files_of_several_patterns_sorted_and_once(site, observatory):
    second, first = site.lens_file("b"), site.lens_file("a")
    (site.directory / "lenses/notes.txt").write_text("no lens")
    (site.directory / "lenses/old.yaml").mkdir()
    text = f"lenses: [lenses/*.yaml, '{site.directory}/lenses/a*.yaml', '*.yaml', none/*.yaml]\n"
    opened = observatory(text)
    assert opened.path == site.directory / "observatory.yaml"
    assert opened.lens_files() == [first, second]  # neither the directory nor the observatory itself


def test_patterns_are_relative_to_the_file_wherever_the_program_runs(site, observatory, monkeypatch):
    path = site.lens_file("a")
    opened = observatory()
    monkeypatch.chdir("/")
    assert opened.lens_files() == [path]
    monkeypatch.chdir(site.directory)
    assert open_observatory("observatory.yaml").path == site.directory / "observatory.yaml"


def test_a_missing_observatory_file(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml: there is no such configuration file"):
        open_observatory(tmp_path / "none.yaml")


def test_broken_lens_files_spoil_no_other(site, observatory):
    site.lens_file("a")
    typo = site.lens_file("b", treshold=3)
    yaml = site.directory / "lenses/c.yaml"
    yaml.write_text("name: [\n")
    latin = site.directory / "lenses/d.yaml"
    latin.write_bytes(b"name: caf\xe9\n")
    without = site.lens_file("e", observatory="nowhere.yaml")
    site.lens_file("f")
    found = load_lenses(observatory().lens_files())
    assert names(found) == ["a", "f"]
    assert list(found.broken) == [typo, yaml, latin, without]
    for path, message in (
        (typo, "unknown key 'treshold'; did you mean 'detection.threshold'?"),
        (yaml, "this is not valid YAML"),
        (latin, "the configuration file cannot be read"),
        (without, "nowhere.yaml: there is no such configuration file"),
    ):
        assert message in found.broken[path]


def test_a_file_that_vanishes_while_we_look(site, observatory):
    site.lens_file("a")
    gone = site.lens_file("b")
    files = observatory().lens_files()
    gone.unlink()
    found = load_lenses(files)
    assert names(found) == ["a"]
    assert "there is no such configuration file" in found.broken[gone]


def test_a_name_belongs_to_the_first_that_has_it(site, observatory):
    first = site.lens_file("first")
    first.write_text(first.read_text().replace("name: first", "name: twin"))
    second = site.lens_file("second")
    second.write_text(second.read_text().replace("name: second", "name: twin"))
    site.lens_file("third")
    opened = observatory()
    found = load_lenses(opened.lens_files())
    assert [loaded.path for loaded in found.lenses] == [first, site.directory / "lenses/third.yaml"]
    assert found.broken == {
        second: f"{second}: the name 'twin' is taken by {first}; give each lens its own "
        "(in the names of DAGs, + is written p)"
    }
    assert find_lens(opened, "twin").path == first


def test_a_file_called_as_its_lens_keeps_the_name(site, observatory):
    copy = site.lens_file("copy")
    copy.write_text(copy.read_text().replace("name: copy", "name: demo"))
    own = site.lens_file("demo")
    opened = observatory()
    found = load_lenses(opened.lens_files())
    assert [loaded.path for loaded in found.lenses] == [own]
    assert f"the name 'demo' is taken by {own}" in found.broken[copy]
    assert find_lens(opened, "demo").path == own  # the same answer, whoever asks


def test_names_that_differ_by_a_sign_that_dags_lack(site, observatory):
    plus, letter = site.lens_file("J0030+15"), site.lens_file("J0030p15")
    opened = observatory()
    found = load_lenses(opened.lens_files())
    assert names(found) == ["J0030+15"]
    assert f"the name 'J0030p15' is taken by {plus}" in found.broken[letter]
    assert dag_name("J0030+15") == "J0030p15"


def test_finding_a_lens_by_its_name_or_that_of_its_dags(site, observatory):
    site.lens_file("a")
    path = site.lens_file("J0030+15")
    opened = observatory()
    assert find_lens(opened, "J0030+15").path == find_lens(opened, "J0030p15").path == path
    assert find_lens(opened, "a").lens.name == "a"


def test_finding_a_lens_in_a_file_of_another_name(site, observatory):
    site.lens_file("a", treshold=3)  # broken, and none of our business
    path = site.lens_file("z")
    path.write_text(path.read_text().replace("name: z", "name: demo"))
    assert find_lens(observatory(), "demo").path == path


def test_finding_a_lens_whose_file_is_broken_gives_its_message(site, observatory):
    site.lens_file("demo", treshold=3)
    site.lens_file("other")
    with pytest.raises(ConfigurationError, match=r"demo.yaml, line \d+: unknown key 'treshold'"):
        find_lens(observatory(), "demo")


def test_a_lens_that_nobody_has(site, observatory):
    site.lens_file("a", treshold=3)
    site.lens_file("b")
    opened = observatory()
    with pytest.raises(ConfigurationError) as error:
        find_lens(opened, "demo")
    text = str(error.value)
    assert f"no lens of {opened.path} is called 'demo' (lenses: lenses/*.yaml)" in text
    assert "these files are broken:\n" in text
    assert "a.yaml" in text
    site.lens_file("a")
    with pytest.raises(ConfigurationError) as error:
        find_lens(opened, "demo")
    assert "broken" not in str(error.value)


def test_every_lens_is_in_one_share_whatever_the_others_are(site, tmp_path):
    files = [tmp_path / f"lens{number}.yaml" for number in range(300)]
    shares = [shard_of(path, 7) for path in files]
    assert set(shares) == set(range(7))
    assert [shard_of(tmp_path / "elsewhere" / path.name, 7) for path in files] == shares
    assert {shard_of(path, 1) for path in files} == {0}
