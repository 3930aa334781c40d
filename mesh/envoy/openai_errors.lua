-- A refusal as google.rpc.Status becomes {"error": {message, type, param, code}}, with the headers that OpenAI's clients
-- heed. It came from a room, or was made by the edge itself: both are such JSON by now, with strings escaped, so that
-- "name": followed by a value cannot be found inside of one. KNOWN, put before this, has type and code by reason.

-- The JSON string behind "name":, with its quotes; nil when there is none.
local function text_of(json, name)
  local _, last = json:find('"' .. name .. '":%s*"')
  if not last then return nil end
  local at = last + 1
  while true do
    local found = json:find('["\\]', at)
    if not found then return nil end
    if json:sub(found, found) == '"' then return json:sub(last, found) end
    at = found + 2
  end
end

local function heed(headers, json, kind)
  local seconds = tonumber(json:match('"retryDelay":%s*"([%d.]+)s"'))
  if seconds then
    headers:replace("retry-after", tostring(math.ceil(seconds)))
    headers:replace("retry-after-ms", tostring(math.ceil(seconds * 1000)))
  end
  if kind == "insufficient_quota" then headers:replace("x-should-retry", "false") end
end

function envoy_on_response(handle)
  if tonumber(handle:headers():get(":status")) < 400 then return end
  local body = handle:body(true)
  local json = body:length() > 0 and body:getBytes(0, body:length()) or ""
  local reason = json:match('"reason":%s*"([A-Z_]+)"') or "UNEXPECTED"
  local told = KNOWN[reason] or KNOWN.UNEXPECTED
  local message = text_of(json, "message") or '"The call was refused. Try again."'
  local param = text_of(json, "field") or "null"
  if param == '""' then param = "null" end
  local error = '{"error":{"message":' .. message .. ',"type":"' .. told[1] .. '","param":' .. param
    .. ',"code":"' .. told[2] .. '"}}'
  local headers = handle:headers()  -- anew: those from before the wait for the body are gone
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(body:setBytes(error)))
  heed(headers, json, told[1])
end
