-- Written by innkeeper.gateway.config. Holds requests for sleepers and guards cookies; no address ever passes here.

local HOLD_MS = @HOLD_MS@
local PARENTS = { @PARENTS@ } -- the workspaces' parent domain and everything above it
local hosts = Map.new("hosts.map", Map._str)
local hosts6 = Map.new("hosts6.map", Map._str)

local function now_ms()
  local now = core.now()
  return now.sec * 1000 + now.usec // 1000
end

local function awake(host)
  return hosts:lookup(host) ~= nil or hosts6:lookup(host) ~= nil
end

local function first(headers, name)
  local values = headers and headers[name]
  return values and values[0] or nil
end

-- The first of its name, as haproxy.cfg judges who is awake by it.
local function header(txn, name, length)
  return string.sub(txn.f:req_fhdr(name, 1) or "", 1, length)
end

local LATE_PAGE = [==[@LATE_PAGE@]==]
local LATE_PROBLEM = [==[@LATE_PROBLEM@]==]

local function late(txn)
  local html = string.find(string.lower(header(txn, "accept", 256)), "text/html", 1, true) ~= nil
  local reply = txn:reply{ status = 503 }
  reply:add_header("retry-after", "2")
  reply:add_header("cache-control", "no-store")
  reply:add_header("content-type", html and "text/html; charset=utf-8" or "application/problem+json")
  reply:set_body(html and LATE_PAGE or LATE_PROBLEM)
  txn:done(reply)
end

-- Ask the agent until it says "look again" (200), refuses (x-answer), or the hold is over. 204 is "not yet".
local function wake(txn)
  local host = txn:get_var("txn.host")
  local accepts_html = string.find(string.lower(header(txn, "accept", 256)), "text/html", 1, true) ~= nil
  local mode = header(txn, "sec-fetch-mode", 32)
  local navigates = txn.f:method() == "GET" and (mode == "navigate" or (mode == "" and accepts_html))
  local path, agent = string.sub(txn.f:path() or "", 1, 1024), header(txn, "user-agent", 512)
  local started = now_ms()
  local waited = 0
  while waited < HOLD_MS do
    local response = core.httpclient():get{
      url = "http://agent/wake", dst = "unix@wake.sock", timeout = 30000,
      headers = {
        ["x-host"] = { host }, ["x-path"] = { path }, ["x-agent"] = { agent },
        ["x-html"] = { (accepts_html or navigates) and "1" or "0" }, ["x-navigates"] = { navigates and "1" or "0" },
        ["x-waited"] = { tostring(waited) }, ["x-left"] = { tostring(HOLD_MS - waited) },
      },
    }
    if awake(host) then return end
    local status = response and response.status or 0
    if response and first(response.headers, "x-answer") then
      local reply = txn:reply{ status = status }
      for _, name in ipairs{ "content-type", "retry-after", "cache-control", "content-security-policy" } do
        local value = first(response.headers, name)
        if value then reply:add_header(name, value) end
      end
      reply:set_body(response.body or "")
      txn:done(reply)
      return
    elseif status == 200 then
      core.msleep(20) -- told to look, but it is gone again: never spin
    elseif status ~= 204 then
      core.msleep(250) -- the agent is away
    end
    waited = now_ms() - started
  end
end

-- A cookie for the parent of all workspaces (or above) would reach other tenants: it loses its Domain attribute.
local function cookies(txn)
  local values = txn.http:res_get_headers()["set-cookie"]
  if not values then return end
  local changed, kept = false, {}
  for index = 0, #values do
    local parts = {}
    for part in string.gmatch(values[index] .. ";", "([^;]*);") do
      local name, value = string.match(part, "^%s*([^=]-)%s*=%s*(.-)%s*$")
      local domain = nil
      if #parts > 0 and name and string.lower(name) == "domain" then
        domain = string.gsub(string.gsub(string.lower(value), "^%.+", ""), "%.+$", "")
      end
      if domain and PARENTS[domain] then changed = true else parts[#parts + 1] = part end
    end
    kept[#kept + 1] = table.concat(parts, ";")
  end
  if not changed then return end
  txn.http:res_del_header("set-cookie")
  for _, value in ipairs(kept) do txn.http:res_add_header("set-cookie", value) end
end

core.register_action("wake", { "http-req" }, wake, 0)
core.register_action("late", { "http-req" }, late, 0)
core.register_action("cookies", { "http-res" }, cookies, 0)
