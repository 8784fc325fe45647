"""`lcops stars`: list, exclude, include."""


def test_list_before_any_run(lcops, season):
    result = lcops("stars", "list", season.config_path)
    assert (result.code, result.out) == (0, "0 reference stars, 0 excluded\n")


def test_a_star_is_excluded_and_taken_back(lcops, season_copy):
    season = season_copy()
    assert lcops("run", "-q", season.config_path).code == 0  # the copy's raw files lie elsewhere
    header, first, *_ = lcops("stars", "list", season.config_path).out.splitlines()
    assert header.split()[0] == "name"
    assert first.split()[0] == "a"
    assert "% (weight" in first
    listed = lcops("stars", "list", season.config_path).out
    assert "neighbours [%]" in header
    assert "the best 5 for the PSF, the best 8 for the normalization" in listed
    ranks = [line.split()[5:7] for line in listed.splitlines()[1:] if line[:1].islower() and " % (" in line]
    assert len({psf for psf, _ in ranks}) == len(ranks)
    season.configure(stars={"stars_to_use_psf": ["a", "nobody"]})
    assert lcops("stars", "list", season.config_path).code == 0
    season.configure(stars={"stars_to_use_psf": 5})

    result = lcops("stars", "exclude", season.config_path, "a", "b", "--comment", "a galaxy")
    assert result.out.startswith("2 stars excluded; `lcops run ")
    listed = lcops("stars", "list", season.config_path).out
    assert "a galaxy" in listed.splitlines()[1]
    assert listed.endswith("2 excluded\n")
    status = lcops("status", season.config_path).out
    psf = next(line for line in status.splitlines() if "psf_modeling" in line).split()
    assert psf[2:4] == ["0", "6"]  # done, stale

    assert lcops("stars", "include", season.config_path, "a", "b").out.startswith("2 stars included")
    assert lcops("stars", "include", season.config_path, "a").out.startswith("nothing to include")
    status = lcops("status", season.config_path).out
    psf = next(line for line in status.splitlines() if "psf_modeling" in line).split()
    assert psf[2:4] == ["6", "0"]


def test_a_star_that_does_not_exist_is_named(lcops, season_copy):
    season = season_copy()
    result = lcops("stars", "exclude", season.config_path, "zz", "--comment", "x")
    assert result.code == 2
    assert "no reference star is called zz; there are a, b" in result.err


def test_the_comment_is_required(lcops, season_copy):
    assert lcops("stars", "exclude", season_copy().config_path, "a").code == 2
