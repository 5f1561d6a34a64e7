"""The errors that Tamlil raises itself.

TamlilError
├── SettingsError                 a setting is missing or wrong: the service does not start
├── CallRefused(RuntimeError)     a call cannot be taken here and now
│   ├── OverCapacity              as many calls are live as this worker takes
│   └── Draining                  the worker is shutting down
├── CallReplaced                  a newer stream of the same call took this one's place
├── TwilioApiError                Twilio's REST API cannot be reached, or refuses
├── BadBusiness                   a business's settings cannot be as they were given
├── StoreAway                     records cannot be written now: the database is away
├── RecordFault                   a record itself cannot be written
├── NotFound                      there is no such record in this business
├── BadToken                      a stream's token is forged, old or another call's
└── TwilioProtocolError           what came over the socket is not Twilio's protocol
    ├── BadMessage                one message: skipped, the call goes on
    └── BadConversation(code)     the whole conversation: closed with this close code
"""


class TamlilError(Exception):
    """Base of every error below."""


class SettingsError(TamlilError):
    """A setting is missing or wrong; the text names the variable and says how to mend it."""


class CallRefused(TamlilError, RuntimeError):
    """A call cannot be taken here and now; `close_code` is what its socket is told (RFC 6455)."""

    close_code = 1013  # try again later


class OverCapacity(CallRefused):
    """As many calls are live as `MAX_CONCURRENT_CALLS` allows."""


class Draining(CallRefused):
    """The worker is shutting down and takes no more calls."""

    close_code = 1012  # service restart


class CallReplaced(TamlilError):
    """A newer stream of the same call took this one's place before its session was ready."""


class TwilioApiError(TamlilError):
    """Twilio's REST API cannot be reached, or refuses; the text is one line that says why."""


class BadBusiness(TamlilError):
    """A business's settings cannot be so; the text is one line that says how to mend it."""


class StoreAway(TamlilError):
    """Records cannot be written now, because the database, or the way to it, is gone."""


class RecordFault(TamlilError):
    """A record among those to be written cannot be: trying again would not help."""


class NotFound(TamlilError):
    """There is no such record, or it is another business's: nobody can tell which."""


class BadToken(TamlilError):
    """A stream's token is not of our making, too old, or for another call."""


class TwilioProtocolError(TamlilError):
    """What came over the socket is not what Twilio's documentation describes."""


class BadMessage(TwilioProtocolError):
    """One message is broken: it is skipped and the call goes on."""


class BadConversation(TwilioProtocolError):
    """The conversation cannot go on; `code` is the WebSocket close code that fits (RFC 6455)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
