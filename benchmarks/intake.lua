-- Sends each of the pre-signed deliveries of INTAKE_LOAD once. One line each: signature header, tab, body.
local requests, at = {}, 0

function init(arguments)
  for line in io.lines(os.getenv("INTAKE_LOAD")) do
    local tab = line:find("\t", 1, true)
    local headers = { ["Content-Type"] = "application/json", ["X-Kirim-Signature"] = line:sub(1, tab - 1) }
    requests[#requests + 1] = wrk.format("POST", nil, headers, line:sub(tab + 1))
  end
end

function request()
  at = at + 1
  if at > #requests then
    wrk.thread:stop()
    at = 1
  end
  return requests[at]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %.3f %.3f %d %d\n",
    summary.requests, summary.duration,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
