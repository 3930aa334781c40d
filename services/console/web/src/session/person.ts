/** Who is signed in, as the token's claims say. For show only: the mesh verifies the token, the page does not. */

export interface Person {
  subject: string;
  /** What to call them. */
  name: string;
  tenant: string;
  roles: string[];
}

interface Claims {
  sub?: string;
  name?: string;
  tenant?: string;
  roles?: string[];
}

export function personOf(accessToken: string): Person {
  const claims = claimsOf(accessToken);
  const subject = claims.sub ?? "someone";
  return {
    subject,
    name: claims.name ?? subject.split("@")[0] ?? subject,
    tenant: claims.tenant ?? "",
    roles: claims.roles ?? [],
  };
}

function claimsOf(token: string): Claims {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Claims;
  } catch {
    return {};
  }
}
