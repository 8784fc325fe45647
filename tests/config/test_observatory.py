"""An observatory's file and a lens's operations: defaults, and every message that a user can meet."""

import pytest

from lightcurver_ops.config import ObservatoryConfig, load_lens, load_observatory
from lightcurver_ops.errors import ConfigurationError

LENS = """\
name: demo
workdir: work
raw: {raw_dirs: [raw]}
roi: {ra: 10.0, dec: -20.0, point_sources: {A: [10.0, -20.0]}}
"""


@pytest.fixture
def observatory(tmp_path):
    """Loads an observatory's file that says this."""

    def load(text):
        path = tmp_path / "observatory.yaml"
        path.write_text(text)
        return load_observatory(path)

    return load


@pytest.fixture
def lens(tmp_path):
    """Loads a lens that says this beside what it must say."""

    def load(text):
        path = tmp_path / "lens.yaml"
        path.write_text(LENS + text)
        return load_lens(path)

    return load


def test_an_empty_file_is_an_observatory(observatory):
    config = observatory("")
    assert config.lenses == ["lenses/*.yaml"]
    assert (config.timezone, config.summary.time) == ("UTC", "09:00")
    assert (config.watch.settle_seconds, config.watch.marker_suffix) == (60.0, None)
    assert (config.alerts.email, config.alerts.slack, config.alerts.webhook) == (None, None, None)
    assert config.pools.gpu == 1


def test_what_is_said_is_taken(observatory):
    config = observatory(
        "name: leonhard\n"
        "timezone: Europe/Zurich\n"
        "watch: {raw_roots: [/data, 's3://bucket'], marker_suffix: .done, poll_seconds: 5}\n"
        "alerts:\n"
        "  email: {to: [a@example.org, b@example.org], sender: lcops@example.org}\n"
        "  slack: {url_file: /run/secrets/slack}\n"
        "  webhook: {url: 'http://127.0.0.1:9/'}\n"
        "summary: {time: '07:45', sigma: 3}\n"
        "pools: {gpu: 2}\n"
        "airflow: {retries: 0}\n"
    )
    assert config.timezone == "Europe/Zurich"
    assert config.watch.raw_roots == ["/data", "s3://bucket"]
    assert config.alerts.email.to == ["a@example.org", "b@example.org"]
    assert config.alerts.email.connection == "smtp_default"
    assert str(config.alerts.slack.url_file) == "/run/secrets/slack"
    assert config.alerts.webhook.url == "http://127.0.0.1:9/"
    assert (config.summary.time, config.summary.sigma) == ("07:45", 3.0)
    assert (config.pools.gpu, config.airflow.retries) == (2, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timezone: America/Santigo\n",
         r"line 1: timezone = 'America/Santigo': there is no such time zone; did you mean America/Santiago\? "
         r"Write an IANA name such as America/Santiago"),
        ("timezone: ''\n", r"timezone = '': there is no such time zone"),
        ("timezone: /etc/passwd\n", r"timezone = '/etc/passwd': there is no such time zone"),
        ("watch: {sweep: daily}\n",
         r"sweep: 'daily' is not a cron expression of five fields, such as '45 \*/6 \* \* \*'"),
        ("watch: {sweep: every six hours or so}\n", r"sweep: 'every six hours or so' is not a cron expression"),
        ("watch: {sweep: '60 * * * *'}\n", r"sweep: '60 \* \* \* \*' is not a cron expression"),
        ("watch: {sweep: '0 24 * * *'}\n", r"is not a cron expression"),
        ("watch: {sweep: '0 6 * jam *'}\n", r"is not a cron expression"),
        ("watch: {sweep: '0 6 *'}\n", r"is not a cron expression"),
        ("watch: {poll_seconds: 0}\n", r"watch.poll_seconds = 0: Input should be greater than 0 \(A root is listed"),
        ("watch: {settle_seconds: -1}\n", r"watch.settle_seconds = -1: Input should be greater than or equal to 0"),
        ("watch: {settle: 10}\n", r"unknown key 'watch.settle'; did you mean 'settle_seconds'\?"),
        ("watch: {raw_roots: /data}\n", r"watch.raw_roots = '/data': Input should be a valid list"),
        ("alerts: {email: {to: [nobody], sender: a@b}}\n",
         r"line 1: alerts.email.to.0 = 'nobody': String should match pattern .*@.* \(Who gets them\)"),
        ("alerts: {email: {to: ['a@b c'], sender: a@b}}\n", r"alerts.email.to.0 = 'a@b c'"),
        ("alerts: {email: {to: [], sender: a@b}}\n", r"alerts.email.to = \[\]: List should have at least 1 item"),
        ("alerts: {email: {to: [a@b], sender: me}}\n", r"alerts.email.sender = 'me'"),
        ("alerts: {email: {to: [a@b]}}\n", r"the key 'alerts.email.sender' is required and missing"),
        ("alerts: {slack: {url: 'https://x', url_file: y}}\n", r"alerts.slack = .*: give either 'url' or 'url_file'"),
        ("alerts: {webhook: {}}\n", r"alerts.webhook = {}: give either 'url' or 'url_file'"),
        ("alerts: {pager: {}}\n", r"unknown key 'alerts.pager'; known here are: email, slack, webhook"),
        ("lenses: []\n", r"line 1: lenses = \[\]: give at least one pattern, such as lenses/\*.yaml"),
        ("lenses: lenses/*.yaml\n", r"lenses = 'lenses/\*.yaml': Input should be a valid list"),
        ("name: two words\n", r"name = 'two words': String should match pattern"),
        ("summary: {time: '24:00'}\n", r"summary.time = '24:00': String should match pattern"),
        ("summary: {time: 9}\n", r"summary.time = 9: Input should be a valid string"),
        ("summary: {sigma: 0}\n", r"summary.sigma = 0: Input should be greater than 0"),
        ("pools: {gpu: 0}\n", r"pools.gpu = 0: Input should be greater than or equal to 1"),
        ("airflow: {retries: -1}\n", r"airflow.retries = -1: Input should be greater than or equal to 0"),
        ("airflow: {stage_timeout_hours: 0}\n", r"airflow.stage_timeout_hours = 0: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_messages(observatory, tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        observatory(text)
    assert str(tmp_path / "observatory.yaml") in str(error.value)


@pytest.mark.parametrize(
    "sweep", ["45 */6 * * *", "0 0-6/2,12 1,15 * mon-fri", "0 6 * JAN-mar 0", "59 23 31 12 7", "*/5 * * * *"]
)
def test_sweeps_that_cron_knows(observatory, sweep):
    assert observatory(f"watch: {{sweep: '{sweep}'}}\n").watch.sweep == sweep


@pytest.mark.parametrize(
    ("written", "time"), [("09:00", "09:00"), ("9:00", "09:00"), ("10:30", "10:30"), ("'23:59'", "23:59")]
)
def test_times_need_no_quotes(observatory, written, time):
    # YAML 1.1 takes 10:30 for the number 630.
    assert observatory(f"summary: {{time: {written}}}\n").summary.time == time


def test_all_findings_are_reported_at_once(observatory):
    with pytest.raises(ConfigurationError) as error:
        observatory("timezone: Nowhere\nlenses: []\npools: {gpu: 0}\nwatch: {sweep: daily}\n")
    for expected in ("line 1: timezone", "line 2: lenses", "line 3: pools.gpu", "line 4: watch"):
        assert expected in str(error.value)


# The keys of a lens


def test_operations_of_a_lens(lens):
    defaults = lens("").operations
    assert (defaults.frames_per_task, defaults.wait_for_frames_hours) == (20, 0.0)
    assert (defaults.alert_after_nights_without_frames, defaults.season_overdue_hours) == (3, 12.0)
    said = lens(
        "operations: {owner: ada, tags: [quad], frames_per_task: 5, wait_for_frames_hours: 2,\n"
        "  alert_after_nights_without_frames: null, season_overdue_hours: null}\n"
    ).operations
    assert (said.owner, said.tags, said.frames_per_task, said.wait_for_frames_hours) == (
        "ada",
        ["quad"],
        5,
        2.0,
    )
    assert (said.alert_after_nights_without_frames, said.season_overdue_hours) == (None, None)
    assert lens("operations:\n").operations == defaults


TELESCOPE = "telescope: {name: T, latitude: 0, longitude: 0, elevation: 0, timezone: %s}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("operations: {frames_per_task: 0}\n",
         r"line 5: operations.frames_per_task = 0: Input should be greater than or equal to 1 \(Frames in one task"),
        ("operations: {wait_for_frames_hours: -1}\n", r"operations.wait_for_frames_hours = -1: Input should be"),
        ("operations: {alert_after_nights_without_frames: 0}\n",
         r"operations.alert_after_nights_without_frames = 0: Input should be greater than or equal to 1"),
        ("operations: {season_overdue_hours: 0}\n", r"operations.season_overdue_hours = 0: Input should be greater"),
        ("operations: {tags: quad}\n", r"operations.tags = 'quad': Input should be a valid list"),
        ("operations: {frames_pertask: 3}\n", r"unknown key 'operations.frames_pertask'; did you mean 'frames_per_"),
        (TELESCOPE % "America/Santigo",
         r"line 5: telescope.timezone = 'America/Santigo': there is no such time zone; did you mean America/Santiago"),
        (TELESCOPE % "''", r"telescope.timezone = '': there is no such time zone"),
    ],
)  # fmt: skip
def test_messages_about_a_lens(lens, text, message):
    with pytest.raises(ConfigurationError, match=message):
        lens(text)


def test_the_timezone_of_a_telescope(lens):
    assert lens(TELESCOPE % "America/Santiago").telescope.timezone == "America/Santiago"
    assert lens(TELESCOPE % "null").telescope.timezone is None


def test_empty_groups_mean_defaults_and_secrets_lie_beside_the_file(tmp_path):
    path = tmp_path / "observatory.yaml"
    path.write_text(
        "watch:\nsummary:\nalerts:\n  slack: {url_file: secrets/slack}\nairflow: {gpu_pod_template: pods/gpu.yaml}\n"
    )
    loaded = load_observatory(path)
    assert loaded.watch == ObservatoryConfig().watch
    assert loaded.alerts.slack is not None
    assert loaded.alerts.slack.url_file == tmp_path / "secrets" / "slack"
    assert loaded.airflow.gpu_pod_template == tmp_path / "pods" / "gpu.yaml"
