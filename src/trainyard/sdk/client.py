"""The clients: every verb of the interface, bound to a way of performing it."""

from trainyard.sdk import admin_calls, results, serving_calls, training_calls, usage_calls
from trainyard.sdk.binding import Verb
from trainyard.sdk.call import Call
from trainyard.sdk.door import AsyncDoor, Door
from trainyard.sdk.run import AsyncRun, Run
from trainyard.sdk.runs import AsyncRuns, Runs
from trainyard.sdk.sandbox import AsyncSandbox, Sandbox


class Client(Door):
    """The blocking client.

    ```python
    with Client(api_key="sk-…") as client:
        run = client.create_run("trainyard/pocket", learning_rate=1e-3)
        print(run.forward_backward([{"text": "once upon a time"}]).loss)
        run.optim_step()
    ```
    """

    @property
    def runs(self) -> Runs:
        """The runs: `create`, `list`, `get`."""
        return Runs(self)

    @property
    def sandbox(self) -> Sandbox:
        """Isolated code: `run`, `session`, `sessions`, `languages`."""
        return Sandbox(self)

    def _open(self, call: Call[results.RunStatus]) -> Run:
        run = self.send(call)
        return Run(self, run.run_id, run.config)

    create_run = Verb(training_calls.create_run, _open)

    models = Verb(training_calls.models, Door.send)
    list_models = models
    list_runs = Verb(training_calls.list_runs, Door.send)
    get_run_status = Verb(training_calls.get_run_status, Door.send)
    get_run_metrics = Verb(training_calls.get_run_metrics, Door.send)
    list_artifacts = Verb(training_calls.list_artifacts, Door.send)
    forward_backward = Verb(training_calls.forward_backward, Door.send)
    optim_step = Verb(training_calls.optim_step, Door.send)
    sample = Verb(training_calls.sample, Door.send)
    sample_stream = Verb(training_calls.sample_stream, Door.stream)
    embeddings = Verb(training_calls.embeddings, Door.send)
    save_state = Verb(training_calls.save_state, Door.send)
    tokenize = Verb(training_calls.tokenize, Door.send)
    detokenize = Verb(training_calls.detokenize, Door.send)
    get_tokenizer_info = Verb(training_calls.get_tokenizer_info, Door.send)
    get_model_info = Verb(training_calls.get_model_info, Door.send)
    apply_chat_template = Verb(training_calls.apply_chat_template, Door.send)
    complete = Verb(training_calls.complete, Door.send)

    served_models = Verb(serving_calls.served_models, Door.send)
    generate = Verb(serving_calls.generate, Door.send)
    generate_batch = Verb(serving_calls.generate_batch, Door.send)
    generate_stream = Verb(serving_calls.generate_stream, Door.stream)
    chat = Verb(serving_calls.chat, Door.send)
    chat_stream = Verb(serving_calls.chat_stream, Door.stream)
    embed = Verb(serving_calls.embed, Door.send)

    create_key = Verb(admin_calls.create_key, Door.send)
    list_keys = Verb(admin_calls.list_keys, Door.send)
    show_key = Verb(admin_calls.show_key, Door.send)
    update_key = Verb(admin_calls.update_key, Door.send)
    rotate_key = Verb(admin_calls.rotate_key, Door.send)
    revoke_key = Verb(admin_calls.revoke_key, Door.send)
    list_tenants = Verb(admin_calls.list_tenants, Door.send)
    show_tenant = Verb(admin_calls.show_tenant, Door.send)
    set_tenant = Verb(admin_calls.set_tenant, Door.send)
    update_tenant = Verb(admin_calls.update_tenant, Door.send)
    clear_tenant = Verb(admin_calls.clear_tenant, Door.send)

    usage = Verb(usage_calls.usage, Door.send)
    usage_report = Verb(usage_calls.usage_report, Door.send)
    usage_csv = Verb(usage_calls.usage_csv, Door.send)
    usage_logs = Verb(usage_calls.usage_logs, Door.send)
    usage_stats = Verb(usage_calls.usage_stats, Door.send)


class AsyncClient(AsyncDoor):
    """The async client: the verbs of `Client`, awaited; streams are async iterators."""

    @property
    def runs(self) -> AsyncRuns:
        """The runs: `create`, `list`, `get`."""
        return AsyncRuns(self)

    @property
    def sandbox(self) -> AsyncSandbox:
        """Isolated code: `run`, `session`, `sessions`, `languages`."""
        return AsyncSandbox(self)

    async def _open(self, call: Call[results.RunStatus]) -> AsyncRun:
        run = await self.send(call)
        return AsyncRun(self, run.run_id, run.config)

    create_run = Verb(training_calls.create_run, _open)

    models = Verb(training_calls.models, AsyncDoor.send)
    list_models = models
    list_runs = Verb(training_calls.list_runs, AsyncDoor.send)
    get_run_status = Verb(training_calls.get_run_status, AsyncDoor.send)
    get_run_metrics = Verb(training_calls.get_run_metrics, AsyncDoor.send)
    list_artifacts = Verb(training_calls.list_artifacts, AsyncDoor.send)
    forward_backward = Verb(training_calls.forward_backward, AsyncDoor.send)
    optim_step = Verb(training_calls.optim_step, AsyncDoor.send)
    sample = Verb(training_calls.sample, AsyncDoor.send)
    sample_stream = Verb(training_calls.sample_stream, AsyncDoor.stream)
    embeddings = Verb(training_calls.embeddings, AsyncDoor.send)
    save_state = Verb(training_calls.save_state, AsyncDoor.send)
    tokenize = Verb(training_calls.tokenize, AsyncDoor.send)
    detokenize = Verb(training_calls.detokenize, AsyncDoor.send)
    get_tokenizer_info = Verb(training_calls.get_tokenizer_info, AsyncDoor.send)
    get_model_info = Verb(training_calls.get_model_info, AsyncDoor.send)
    apply_chat_template = Verb(training_calls.apply_chat_template, AsyncDoor.send)
    complete = Verb(training_calls.complete, AsyncDoor.send)

    served_models = Verb(serving_calls.served_models, AsyncDoor.send)
    generate = Verb(serving_calls.generate, AsyncDoor.send)
    generate_batch = Verb(serving_calls.generate_batch, AsyncDoor.send)
    generate_stream = Verb(serving_calls.generate_stream, AsyncDoor.stream)
    chat = Verb(serving_calls.chat, AsyncDoor.send)
    chat_stream = Verb(serving_calls.chat_stream, AsyncDoor.stream)
    embed = Verb(serving_calls.embed, AsyncDoor.send)

    create_key = Verb(admin_calls.create_key, AsyncDoor.send)
    list_keys = Verb(admin_calls.list_keys, AsyncDoor.send)
    show_key = Verb(admin_calls.show_key, AsyncDoor.send)
    update_key = Verb(admin_calls.update_key, AsyncDoor.send)
    rotate_key = Verb(admin_calls.rotate_key, AsyncDoor.send)
    revoke_key = Verb(admin_calls.revoke_key, AsyncDoor.send)
    list_tenants = Verb(admin_calls.list_tenants, AsyncDoor.send)
    show_tenant = Verb(admin_calls.show_tenant, AsyncDoor.send)
    set_tenant = Verb(admin_calls.set_tenant, AsyncDoor.send)
    update_tenant = Verb(admin_calls.update_tenant, AsyncDoor.send)
    clear_tenant = Verb(admin_calls.clear_tenant, AsyncDoor.send)

    usage = Verb(usage_calls.usage, AsyncDoor.send)
    usage_report = Verb(usage_calls.usage_report, AsyncDoor.send)
    usage_csv = Verb(usage_calls.usage_csv, AsyncDoor.send)
    usage_logs = Verb(usage_calls.usage_logs, AsyncDoor.send)
    usage_stats = Verb(usage_calls.usage_stats, AsyncDoor.send)
