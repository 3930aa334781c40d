-- One request again and again. Words after `--`: body, authorization, host, what an answer must hold, and seconds to
-- pass before answers count, and while they do: a window in the midst of the run favours neither the slow nor the quick.
-- `done` writes what was heard to stderr, as one JSON object.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);")
local moment = ffi.new("moment")
local threads = {}
broken, counted, sample = 0, 0, ""

local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.s) + tonumber(moment.ns) / 1e9
end

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  wrk.method, wrk.body, words = "POST", args[1], args[4]
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = args[2]
  wrk.headers["Host"] = args[3]
  begins = now() + tonumber(args[5])
  ends = begins + tonumber(args[6])
end

function response(status, headers, body)
  if status ~= 200 or not body:find(words, 1, true) then
    broken = broken + 1
    if sample == "" then sample = status .. " " .. body:sub(1, 300) end
    return
  end
  local at = now()
  if at >= begins and at < ends then counted = counted + 1 end
end

function done(summary, latency, requests)
  local errors, totals, shown = summary.errors, {broken = 0, counted = 0}, ""
  for _, thread in ipairs(threads) do
    for name, total in pairs(totals) do totals[name] = total + thread:get(name) end
    if shown == "" then shown = thread:get("sample"):gsub('[^%w ,.:;{}/_-]', "'") end
  end
  io.stderr:write(string.format(
    '{"answers":%d,"counted":%d,"broken":%d,"cut":%d,"late":%d,"p50_us":%d,"p95_us":%d,"p99_us":%d,"sample":"%s"}\n',
    summary.requests, totals.counted, totals.broken, errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), shown))
end
