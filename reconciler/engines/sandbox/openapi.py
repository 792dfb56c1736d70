"""The description of the embedded server: an OpenAPI 3.1 document."""

from typing import Any

from reconciler.engines.sandbox.answers import CONTRACT_ERRORS, JSON

VERSION = "0.1"
DEFAULT_PAGE = 100
MAX_PAGE = 1000
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

_DESCRIPTION = """\
**This server simulates.** It speaks the jobs API so that a client can be tried and tested; no job
that it knows is real, and no work is done. Every answer carries `Server: reconciler-sandbox (simulated)`.
"""

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_TIME = {"type": ["string", "null"], "format": "date-time"}
_SECONDS_TEXT = {"type": "string", "pattern": "^[0-9]{1,19}$", "description": "An int64 as a decimal string."}
_SECONDS = {
    "description": "int64, in seconds; 0 stands for no limit.",
    "anyOf": [{"type": "integer", "format": "int64", "minimum": 0, "maximum": INT64_MAX}, _SECONDS_TEXT],
}
_STATES = ["JOB_STATE_NEW", "JOB_STATE_RUNNING", "JOB_STATE_COMPLETE", "JOB_STATE_FAILED", "JOB_STATE_ABORTED"]
_MEANINGS = {
    400: "The request is malformed, or the job's state forbids it.",
    401: "Not authenticated.",
    403: "No permission.",
    404: "No such resource.",
    500: "A server error.",
    503: "Temporarily unavailable.",
}


def openapi_document(*, reads: bool = True) -> dict[str, Any]:
    """Return the document. Without `reads`, the document holds only the three calls that change a job."""
    paths = _part_1()
    if reads:
        for path, operations in _part_2().items():
            paths.setdefault(path, {}).update(operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ByteNite jobs API (simulated)", "version": VERSION, "description": _DESCRIPTION},
        "servers": [{"url": "/v1"}],
        "security": [{"ApiKeyAuth": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "ApiKeyAuth": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "The bare access token, with no word before it.",
                }
            },
            "parameters": {
                "jobId": {"name": "jobId", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            },
            "schemas": _schemas(),
        },
    }


def _part_1() -> dict[str, Any]:
    run = _operation("Customer_RunJob", "Run a job.", "commonGenericResponse", body="RunRequest")
    abort = _operation("Customer_AbortJob", "Abort a running job; a draft is deleted.", "commonGenericResponse")
    delete = _operation("Customer_DeleteJob", "Delete a job that is not running.", "commonGenericResponse")
    return {
        "/customer/jobs/{jobId}/run": _on_job(post=run),
        "/customer/jobs/{jobId}/abort": _on_job(post=abort),
        "/customer/jobs/{jobId}": _on_job(delete=delete),
    }


def _part_2() -> dict[str, Any]:
    create = _operation("Customer_CreateJob", "Create a draft.", "JobAnswer", body="CreateRequest")
    create["responses"]["200"]["links"] = {
        operation: {"operationId": operation, "parameters": {"jobId": "$response.body#/job/id"}}
        for operation in ("Customer_GetJob", "Customer_RunJob", "Customer_AbortJob", "Customer_DeleteJob")
    }
    listing = _operation("Customer_GetJobs", "List the jobs, oldest first.", "JobList")
    listing["parameters"] = [
        _query("pagination.limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE}),
        _query("pagination.offset", {"type": "integer", "minimum": 0, "maximum": INT32_MAX, "default": 0}),
        _query("orderBy", {"type": "string", "description": "Accepted and ignored."}),
    ]
    token = _operation(
        "Auth_AccessToken", "Exchange an API key for an access token.", "TokenAnswer", body="TokenRequest"
    )
    token["security"] = []
    return {
        "/customer/jobs": {"get": listing, "post": create},
        "/customer/jobs/{jobId}": {"get": _operation("Customer_GetJob", "Read a job.", "JobAnswer")},
        "/auth/access_token": {"post": token},
    }


def _on_job(**operations: Any) -> dict[str, Any]:
    return {"parameters": [{"$ref": "#/components/parameters/jobId"}], **operations}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _operation(operation_id: str, summary: str, answer: str, body: str = "") -> dict[str, Any]:
    failures = {str(status): _answer(_MEANINGS[status], "Failure") for status in CONTRACT_ERRORS}
    operation: dict[str, Any] = {
        "operationId": operation_id,
        "summary": summary,
        "responses": {"200": _answer("Done.", answer), **failures, "default": _answer("Any other.", "rpcStatus")},
    }
    if body:
        operation["requestBody"] = {"required": True, "content": _content(body)}
    return operation


def _answer(description: str, schema: str) -> dict[str, Any]:
    server = {"description": "Says that this is a simulation.", "required": True, "schema": _TEXT}
    return {"description": description, "headers": {"Server": server}, "content": _content(schema)}


def _content(schema: str) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Any]:
    """Return all schemas of the document, by name."""
    return {**_request_schemas(), **_job_schemas(), **_result_schemas()}


def _request_schemas() -> dict[str, Any]:
    """Return the schemas of the bodies of requests."""
    return {
        "jobJobConfig": _object({"taskTimeout": _SECONDS, "jobTimeout": _SECONDS, "isTestJob": _FLAG}),
        "RunRequest": _object({"config": _ref("jobJobConfig")}, ("config",)),
        "CreateRequest": _object({"name": _TEXT, "templateId": _TEXT, "description": _TEXT}),
        "TokenRequest": _object({"apiKey": _TEXT}, ("apiKey",)),
    }


def _job_schemas() -> dict[str, Any]:
    """Return the schemas of a job, and of the responses that hold jobs."""
    number = {"type": "integer", "minimum": 0}
    pagination = {"total": number, "offset": number, "hasPrevious": _FLAG, "hasNext": _FLAG}
    job = {
        "id": _TEXT,
        "name": _TEXT,
        "templateId": _TEXT,
        "description": _TEXT,
        "config": _ref("jobJobConfig"),
        "state": {"type": "string", "enum": _STATES},
        "createdAt": _TIME,
        "submittedAt": _TIME,
        "startedAt": _TIME,
        "endedAt": _TIME,
        "deletedAt": _TIME,
        "errorMessage": _TEXT,
        "stateTimestamps": {"type": "object", "additionalProperties": {"type": "string", "format": "date-time"}},
    }
    return {
        "job": _object(job, tuple(job)),
        "JobAnswer": _object({"job": _ref("job"), "templateInfo": {"type": "object"}}, ("job",)),
        "JobList": _object(
            {"pagination": _object(pagination, tuple(pagination)), "data": {"type": "array", "items": _ref("job")}},
            ("pagination", "data"),
        ),
    }


def _result_schemas() -> dict[str, Any]:
    """Return the schemas of the results of calls, of failures and of access tokens."""
    error = {"code": {"type": "integer", "format": "int64"}, "message": _TEXT, "description": _TEXT}
    generic = {"ok": _FLAG, "requestId": _TEXT, "message": _TEXT, "error": _ref("commonError")}
    detail = {"type": "object", "properties": {"@type": _TEXT}, "additionalProperties": True}
    status = {
        "code": {"type": "integer", "format": "int32"},
        "message": _TEXT,
        "details": {"type": "array", "items": detail},
    }
    return {
        "commonGenericResponse": _object(generic, ("ok", "requestId")),
        "commonError": _object(error, ("code", "message", "description")),
        "Failure": _object(generic, ("ok", "requestId", "error")),
        "rpcStatus": _object(status, ("code", "message")),
        "TokenAnswer": _object({"token": _TEXT, "expiresIn": _SECONDS_TEXT}, ("token", "expiresIn")),
    }
