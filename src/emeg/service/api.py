"""Requests to the Prefect server that the environment or the profile names."""

from types import TracebackType
from typing import Any, Self

from emeg.errors import TransientError, UserError

PAGE = 200
"""Rows in one answer of the server, its limit."""


BUSY_S = 60.0
"""Seconds for which a request is repeated while the server answers 503: SQLite is locked by another request."""


class Api:
    """A connection to the server's REST API, with the address and password of Prefect's settings."""

    def __init__(self) -> None:
        import httpx
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        if not settings.api.url:
            raise UserError(
                "no Prefect server is configured; start one with `emeg up` and export the lines that `emeg status`"
                " prints, or set PREFECT_API_URL to the address of a server"
            )
        self.url = str(settings.api.url).rstrip("/")
        secret = settings.api.auth_string
        user, _, password = secret.get_secret_value().partition(":") if secret else ("", "", "")
        self._client = httpx.Client(
            base_url=self.url, auth=(user, password) if secret else None, timeout=60.0, follow_redirects=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def ask(self, method: str, path: str, json: object = None) -> Any:  # noqa: ANN401 - any JSON
        """Send a request and return the answer, `None` where there is nothing of that name.

        Raises
        ------
        UserError
            The server refuses the request, or the password.
        TransientError
            The server cannot be reached or is busy.
        """
        import httpx
        from tenacity import Retrying, retry_if_result, stop_after_delay, wait_exponential

        again = Retrying(
            retry=retry_if_result(lambda answer: answer.status_code == httpx.codes.SERVICE_UNAVAILABLE),
            wait=wait_exponential(multiplier=0.5, max=8.0),
            stop=stop_after_delay(BUSY_S),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        try:
            answer = again(self._client.request, method, path, json=json)
        except httpx.HTTPError as error:
            raise TransientError(
                f"{self.url}: the Prefect server does not answer ({type(error).__name__}); start it with `emeg up`,"
                " or correct PREFECT_API_URL"
            ) from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise UserError(
                f"{self.url}: the server asks for a password; set PREFECT_API_AUTH_STRING=user:password,"
                " as `emeg status` prints it"
            )
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise TransientError(f"{self.url}{path}: the server answers {answer.status_code}; try again")
        if answer.is_error:
            raise UserError(f"{self.url}{path}: the server refuses the request: {' '.join(answer.text.split())[:500]}")
        return answer.json() if answer.content else None

    def all(self, path: str, body: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return all rows of a ``filter`` route, page by page."""
        rows: list[dict[str, Any]] = []
        while True:
            page = self.ask("POST", path, {**(body or {}), "limit": PAGE, "offset": len(rows)}) or []
            rows += page
            if len(page) < PAGE:
                return rows
