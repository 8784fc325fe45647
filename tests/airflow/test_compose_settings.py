"""The settings of the compose files are settings of this Airflow."""

import re

from tests.docker.compose_files import SEVERAL_MACHINES, composed
from tests.docker.test_compose_files import VARIABLES


def test_airflow_knows_every_setting():
    """A setting with a slip in its name would do nothing, silently."""
    from airflow.configuration import conf
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    @providers_configuration_loaded
    def options() -> set[tuple[str, str]]:
        known = conf.configuration_description
        return {(section, option) for section, content in known.items() for option in content["options"]}

    known, secret = options(), conf.sensitive_config_values
    for service in composed(SEVERAL_MACHINES, VARIABLES)["services"].values():
        for name in service.get("environment", {}):
            if match := re.fullmatch(r"AIRFLOW__(.+?)__(.+?)(_CMD)?", name):
                place = match[1].lower(), match[2].lower()
                assert place in known, name
                assert not match[3] or place in secret, f"{name}: Airflow runs no command for it"
