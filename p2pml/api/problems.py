"""Errors as RFC 9457 problem details, with two fields more: `fix` (what to do) and `code` (the command's exit
code).
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from p2pml.errors import ExitCode, UserError
from p2pml.node.views import NotFound

logger = logging.getLogger(__name__)

_STATUS = {
    ExitCode.USAGE: 400,
    ExitCode.AUTH: 403,
    ExitCode.NETWORK: 503,
    ExitCode.JOB_FAILED: 409,
    ExitCode.BAD_CONFIG: 422,
    ExitCode.NO_DATA: 422,
    ExitCode.NO_TOKENS: 409,
    ExitCode.NO_WORKER: 409,
}


def problem(status: int, detail: str, fix: str = "", code: int = ExitCode.FAILURE) -> JSONResponse:
    """One problem document (`application/problem+json`)."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "fix": fix,
        "code": int(code),
    }
    return JSONResponse(content, status_code=status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document; none of them shows a traceback."""

    @app.exception_handler(UserError)
    async def user_error(_request: Request, error: UserError) -> JSONResponse:
        status = 404 if isinstance(error, NotFound) else _STATUS.get(error.code, 400)
        return problem(status, error.cause, error.fix, error.code)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_request: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(str(step) for step in item['loc'])}: {item['msg']}" for item in error.errors()]
        return problem(422, "; ".join(parts), "see /openapi.json", ExitCode.USAGE)

    @app.exception_handler(HTTPException)
    async def http_error(_request: Request, error: HTTPException) -> JSONResponse:
        fix = "see /openapi.json" if error.status_code in (404, 405) else ""
        return problem(error.status_code, str(error.detail), fix, ExitCode.FAILURE)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "the node failed to answer this request", "its log has the details")
