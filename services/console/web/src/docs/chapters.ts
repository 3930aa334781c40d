/** The chapters before the operations: their anchors and titles, and the words that the search knows them by. */
export const CHAPTERS = [
  { id: "begin", title: "The first call", words: "base URL curl start health healthz" },
  {
    id: "tokens",
    title: "Tokens",
    words: "authentication authorization bearer OIDC sign in login roles tenant 401 403",
  },
  { id: "values", title: "Values in JSON", words: "int64 string defaults camelCase time bytes empty" },
  { id: "errors", title: "Errors", words: "Status ErrorInfo RetryInfo details code message reason retry" },
  { id: "streams", title: "Streams", words: "SSE server-sent events resume sequence heartbeat cut watch done" },
  { id: "pages", title: "Pages", words: "paging pageSize pageToken nextPageToken list" },
  { id: "writes", title: "Writes that may be repeated", words: "requestId idempotency etag updateMask retry" },
  { id: "python", title: "From Python", words: "SDK gRPC client library soma_sdk mTLS SVID" },
  { id: "reasons", title: "All reasons", words: "catalogue of errors" },
] as const;
