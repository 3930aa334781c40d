/** A call that did not succeed, whether the mesh said so or nothing answered at all. */
import type { Failure, Status } from "./types";

/** Reasons the page itself finds; all others are from error_reason.proto. */
export const UNREACHABLE = "UNREACHABLE";
export const CUT = "CUT";
export const SIGNED_OUT = "SIGNED_OUT";

/** Reasons after which the same request may be sent again by itself: a part is down or on its way back. */
const PASSING = new Set([UNREACHABLE, CUT, "ROOM_UNAVAILABLE", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"]);
const RETRYABLE_STATUS = new Set([409, 429, 502, 503, 504]);

export class Refusal extends Error {
  constructor(
    readonly reason: string,
    message: string,
    readonly facts: {
      status?: number;
      metadata?: Record<string, string>;
      retryAfterMs?: number;
      retryable?: boolean;
    } = {},
  ) {
    super(message);
  }

  get passing(): boolean {
    return PASSING.has(this.reason);
  }

  /** A part of the mesh may be down, so it is worth asking it how it is. */
  get blamesMesh(): boolean {
    return this.passing || this.reason === "MODEL_UNAVAILABLE";
  }

  /** Nobody is signed in any more. */
  get signedOut(): boolean {
    return this.reason === SIGNED_OUT || this.reason === "TOKEN_REFUSED";
  }

  get retryable(): boolean {
    return this.facts.retryable ?? (this.passing || RETRYABLE_STATUS.has(this.facts.status ?? 0));
  }

  failure(): Failure {
    return { reason: this.reason, message: this.message, retryable: this.retryable };
  }
}

/** What an event or a turn says of its failure, as the refusal that it is. */
export const refusalIn = ({ reason = "", message = "", retryable = false }: Failure): Refusal =>
  new Refusal(reason, message, { retryable });

export const unreachable = (): Refusal => new Refusal(UNREACHABLE, "Nothing answers at this address. Is the mesh up?");

export const cut = (): Refusal => new Refusal(CUT, "The stream was cut; what it brought is kept.");

export const signedOut = (): Refusal =>
  new Refusal(SIGNED_OUT, "Sign in again: your question is kept, and asked by itself then.");

/** The refusal in an answer's body: google.rpc.Status with ErrorInfo, or whatever a proxy put there instead. */
export function refusalOf(httpStatus: number, body: string): Refusal {
  const status = parsed(body);
  const info = status?.details?.find((detail) => detail["@type"]?.endsWith("google.rpc.ErrorInfo"));
  const retry = status?.details?.find((detail) => detail["@type"]?.endsWith("google.rpc.RetryInfo"));
  const reason =
    info?.reason ?? (httpStatus >= 502 ? "ROOM_UNAVAILABLE" : httpStatus === 401 ? "TOKEN_REFUSED" : "UNEXPECTED");
  return new Refusal(reason, status?.message || `The mesh answered with status ${httpStatus}.`, {
    status: httpStatus,
    ...(info?.metadata && { metadata: info.metadata }),
    ...(retry?.retryDelay && { retryAfterMs: milliseconds(retry.retryDelay) }),
  });
}

/** Whatever was thrown, as a refusal. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof TypeError) return unreachable(); // what fetch throws when there is no connection
  return new Refusal("UNEXPECTED", error instanceof Error ? error.message : String(error), { retryable: true });
}

function parsed(body: string): Status | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null ? (value as Status) : undefined;
  } catch {
    return undefined;
  }
}

/** proto3 JSON's duration, such as "1.500s". */
function milliseconds(duration: string): number {
  const seconds = Number.parseFloat(duration);
  return Number.isFinite(seconds) ? Math.round(seconds * 1000) : 0;
}
